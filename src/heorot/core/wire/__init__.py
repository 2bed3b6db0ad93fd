"""What daemons and clients say to each other: messages, their tags, and the frames that carry them."""
