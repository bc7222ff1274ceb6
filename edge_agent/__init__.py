"""What runs on a device: takes up what is desired, proves it there, switches it on, and reports."""
