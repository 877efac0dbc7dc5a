"""What two or more numbered steps share. Each module is a room with one purpose; nothing runs at import."""
