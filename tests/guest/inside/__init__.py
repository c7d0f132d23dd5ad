"""What runs in the guest: each module's `main` measures and prints one JSON object, its last line."""
