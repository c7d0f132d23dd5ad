"""brainforge-edge: a bedside appliance for neural sensors."""
