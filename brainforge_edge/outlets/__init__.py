"""What the box offers to other programs by LSL: its streams, its markers, a remote control."""
