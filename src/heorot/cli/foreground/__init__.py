"""A job in the foreground: event loop, forms of output, terminal and signals, takeover by the next head."""
