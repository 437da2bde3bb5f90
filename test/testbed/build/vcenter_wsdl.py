"""Print the WSDL of a vCenter, as much of it as oslo.vmware and Glance's driver ask for.

The simulator has none.  pyVmomi knows every method and type of the interface; what is printed
follows from that.
"""

from xml.sax.saxutils import quoteattr

from pyVmomi import VmomiSupport, vim, vmodl

METHODS = {
    vim.ServiceInstance: ("RetrieveContent", "CurrentTime"),
    vim.SessionManager: ("Login", "Logout", "SessionIsActive", "Terminate"),
    vim.SearchIndex: ("FindByInventoryPath",),
    vim.FileManager: ("DeleteFile", "MakeDirectory"),
    vmodl.query.PropertyCollector: (
        "RetrieveContents",
        "RetrievePropertiesEx",
        "ContinueRetrievePropertiesEx",
        "CancelRetrievePropertiesEx",
    ),
}
#: Types that come where the interface says "anything".
MORE = (
    vim.TaskInfo,
    vim.TaskReasonUser,
    vim.TaskReasonSystem,
    vim.TaskReasonAlarm,
    vim.TaskReasonSchedule,
    vim.Datastore.Summary,
    vim.fault.FileNotFound,
    vim.fault.FileFault,
    vim.fault.NoPermission,
    vim.fault.InvalidLogin,
)
SCALARS = {
    "bool": "boolean",
    "byte": "byte",
    "short": "short",
    "int": "int",
    "long": "long",
    "float": "float",
    "double": "double",
    "str": "string",
    "datetime": "dateTime",
    "URI": "anyURI",
    "binary": "base64Binary",
    "object": "anyType",
}
STRINGS = ("PropertyPath", "MethodName", "ManagedMethod", "TypeName", "type")
OPTIONAL = 4  # flag of pyVmomi
MANAGED = "ManagedObjectReference"


class Schema:
    """The types, each once, found from those that refer to them."""

    def __init__(self):
        self.types = {}

    def name(self, kind):
        """The name of a type in the schema; what it needs gets in, too."""
        if kind.__name__ in SCALARS:
            return f"xsd:{SCALARS[kind.__name__]}"
        if kind.__name__ in STRINGS:
            return "xsd:string"
        if issubclass(kind, VmomiSupport.ManagedObject):
            return f"vim25:{MANAGED}"
        name = VmomiSupport.GetWsdlName(kind)
        if name not in self.types:
            self.types[name] = ""  # it may refer to itself
            if issubclass(kind, vmodl.MethodFault):
                # A fault is data here, an exception in Python.
                base = next((one for one in kind.__mro__[1:] if hasattr(one, "_propList")), None)
            else:
                base = kind.__bases__[0]
            self.types[name] = self._type(name, kind, base)
        return f"vim25:{name}"

    def _type(self, name, kind, base):
        if hasattr(kind, "values"):
            values = "".join(f"<xsd:enumeration value={quoteattr(one)}/>" for one in kind.values)
            return (
                f'<xsd:simpleType name="{name}"><xsd:restriction base="xsd:string">{values}'
                "</xsd:restriction></xsd:simpleType>"
            )
        if issubclass(kind, VmomiSupport.Array):
            item = VmomiSupport.GetWsdlName(kind.Item)
            return self.complex(name, self.element(item, kind.Item, "0", "unbounded"))
        inherited = {one.name for one in getattr(base, "_propList", ())}
        elements = "".join(
            self.property(one) for one in kind._propList if one.name not in inherited
        )
        inherits = hasattr(base, "_propList") and base.__name__ != "DataObject"
        return self.complex(name, elements, self.name(base) if inherits else None)

    @staticmethod
    def complex(name, elements, base=None):
        body = f"<xsd:sequence>{elements}</xsd:sequence>"
        if base:
            body = (
                f'<xsd:complexContent><xsd:extension base="{base}">{body}'
                "</xsd:extension></xsd:complexContent>"
            )
        return f'<xsd:complexType name="{name}">{body}</xsd:complexType>'

    def property(self, one):
        """An element for a property or parameter."""
        many = issubclass(one.type, VmomiSupport.Array)
        least = "0" if many or one.flags & OPTIONAL else "1"
        kind = one.type.Item if many else one.type
        return self.element(one.name, kind, least, "unbounded" if many else "1")

    def element(self, name, kind, least="1", most="1"):
        return (
            f'<xsd:element name="{name}" type="{self.name(kind)}" minOccurs="{least}"'
            f' maxOccurs="{most}"/>'
        )


def main():
    schema = Schema()
    elements, messages, ports, bindings = [], [], [], []
    for owner, names in METHODS.items():
        for method in names:
            info = owner._methodInfo[method]
            wsdl = info.wsdlName
            this = f'<xsd:element name="_this" type="vim25:{MANAGED}"/>'
            given = "".join(schema.property(one) for one in info.params)
            schema.types[f"{wsdl}RequestType"] = schema.complex(f"{wsdl}RequestType", this + given)
            result = ""
            if info.isTask:
                result = f'<xsd:element name="returnval" type="vim25:{MANAGED}"/>'
            elif info.methodResult is not type(None):
                kind = info.methodResult
                many = issubclass(kind, VmomiSupport.Array)
                least = "0" if many or info.resultFlags & OPTIONAL else "1"
                result = schema.element(
                    "returnval", kind.Item if many else kind, least, "unbounded" if many else "1"
                )
            elements.append(
                f'<xsd:element name="{wsdl}" type="vim25:{wsdl}RequestType"/>'
                f'<xsd:element name="{wsdl}Response"><xsd:complexType><xsd:sequence>{result}'
                "</xsd:sequence></xsd:complexType></xsd:element>"
            )
            messages.append(
                f'<message name="{wsdl}RequestMsg"><part name="parameters"'
                f' element="vim25:{wsdl}"/></message>'
                f'<message name="{wsdl}ResponseMsg"><part name="parameters"'
                f' element="vim25:{wsdl}Response"/></message>'
            )
            ports.append(
                f'<operation name="{wsdl}"><input message="vim25:{wsdl}RequestMsg"/>'
                f'<output message="vim25:{wsdl}ResponseMsg"/></operation>'
            )
            bindings.append(
                f'<operation name="{wsdl}"><soap:operation soapAction="urn:vim25/8.0"'
                ' style="document"/><input><soap:body use="literal"/></input>'
                '<output><soap:body use="literal"/></output></operation>'
            )
    for kind in MORE:
        schema.name(kind)
    schema.types[MANAGED] = (
        f'<xsd:complexType name="{MANAGED}"><xsd:simpleContent><xsd:extension base="xsd:string">'
        '<xsd:attribute name="type" type="xsd:string"/></xsd:extension></xsd:simpleContent>'
        "</xsd:complexType>"
    )
    for name, item in ((MANAGED, f"vim25:{MANAGED}"), ("String", "xsd:string")):
        schema.types[f"ArrayOf{name}"] = schema.complex(
            f"ArrayOf{name}",
            f'<xsd:element name="{name}" type="{item}" minOccurs="0" maxOccurs="unbounded"/>',
        )
    print(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<definitions targetNamespace="urn:vim25" xmlns="http://schemas.xmlsoap.org/wsdl/"'
        ' xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:vim25="urn:vim25"'
        ' xmlns:xsd="http://www.w3.org/2001/XMLSchema">\n'
        '<types><xsd:schema targetNamespace="urn:vim25" elementFormDefault="qualified">\n'
        + "\n".join([*schema.types.values(), *elements])
        + "\n</xsd:schema></types>\n"
        + "\n".join(messages)
        + '\n<portType name="VimPortType">\n'
        + "\n".join(ports)
        + '\n</portType>\n<binding name="VimBinding" type="vim25:VimPortType">\n'
        '<soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>\n'
        + "\n".join(bindings)
        + '\n</binding>\n<service name="VimService">'
        '<port binding="vim25:VimBinding" name="VimPort"><soap:address location="https://localhost/sdk/vimService"/></port></service>\n'
        "</definitions>"
    )


if __name__ == "__main__":
    main()
