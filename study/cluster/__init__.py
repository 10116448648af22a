"""Ray: started or joined, and what of it is patched."""
