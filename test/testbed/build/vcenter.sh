#!/bin/bash
# In a build container: a vCenter (vcenter.go was compiled before) and its WSDL.
set -euo pipefail
install /mnt/vcenter /usr/local/bin/vcenter
python3 /mnt/vcenter_wsdl.py >/usr/local/share/vim.wsdl
