"""What goes over the wire: messages, frames, and how requests are refused."""
