"""dataplane: the emulated rack that netctl's labs run on, with real OVS, real OVN and real Linux guests."""
