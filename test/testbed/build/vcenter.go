// A vCenter for tests: VMware's own simulator, of which the data centre DC0 has two datastores,
// with the two things that it lacks: a WSDL, and a look at the session when files are moved.
package main

import (
	"crypto/tls"
	"flag"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/vmware/govmomi/simulator"
)

const sessionCookie = "vmware_soap_session"

// sessions are the cookies that a good login has brought.
type sessions struct {
	sync.Mutex
	alive map[string]bool
}

func (s *sessions) add(header http.Header) {
	answer := http.Response{Header: header}
	s.Lock()
	defer s.Unlock()
	for _, cookie := range answer.Cookies() {
		if cookie.Name == sessionCookie {
			s.alive[cookie.Value] = true
		}
	}
}

func (s *sessions) has(request *http.Request) bool {
	cookie, err := request.Cookie(sessionCookie)
	s.Lock()
	defer s.Unlock()
	return err == nil && s.alive[strings.Trim(cookie.Value, `"`)]
}

// recorder remembers the status of an answer; none is written where all is well.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func main() {
	listen := flag.String("listen", "127.0.0.1:443", "address and port")
	username := flag.String("username", "glance", "who may log in")
	password := flag.String("password", "", "and the password")
	certificate := flag.String("certificate", "", "PEM file")
	key := flag.String("key", "", "PEM file")
	wsdl := flag.String("wsdl", "", "file to serve as vimService.wsdl")
	flag.Parse()

	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	if err != nil {
		log.Fatal(err)
	}
	model := simulator.VPX()
	model.Machine = 0
	model.Datastore = 2
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	defer model.Remove()
	model.Service.Listen = &url.URL{Host: *listen, User: url.UserPassword(*username, *password)}
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server := model.Service.NewServer()
	defer server.Close()

	known := &sessions{alive: map[string]bool{}}
	simulated := server.Config.Handler
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/sdk/vimService.wsdl":
			http.ServeFile(w, r, *wsdl)
		case strings.HasPrefix(r.URL.Path, "/folder/") && !known.has(r):
			http.Error(w, "no session", http.StatusUnauthorized)
		default:
			answer := &recorder{w, http.StatusOK}
			simulated.ServeHTTP(answer, r)
			if answer.status == http.StatusOK {
				known.add(w.Header())
			}
		}
	})
	log.Printf("vCenter at %s", server.URL.Host)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}
