"""Model architectures, one file each; `registry` finds them."""
