# In a build container, before every build script: where uv and its settings are. Sourced.
PATH=/mnt:$PATH
SSL_CERT_FILE=/mnt/ca.crt
UV_CACHE_DIR=/media
UV_LINK_MODE=copy
UV_COMPILE_BYTECODE=1
UV_SYSTEM_CERTS=1
UV_PYTHON_DOWNLOADS=never
