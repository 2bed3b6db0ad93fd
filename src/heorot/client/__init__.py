"""The Python library, and what the commands share with it: endpoint, session, search for a head, copies."""
