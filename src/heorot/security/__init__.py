"""Who is who in a cluster: its certificate authority, identities, TLS links, signatures, join tokens and enrolment."""
