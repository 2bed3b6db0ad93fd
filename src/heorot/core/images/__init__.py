"""Images on one hop: what of them is here, who asks for them, and from whom they come."""
