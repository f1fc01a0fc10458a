"""libvirt's domain XML as small declared values, a file per family of elements. Source: libvirt's formatdomain.html."""
