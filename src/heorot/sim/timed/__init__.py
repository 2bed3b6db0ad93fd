"""How long launches and broadcasts take on clusters of any size: no faults, no chance, measured costs."""
