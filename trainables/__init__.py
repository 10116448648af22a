"""What a trial is: its configuration, network, data and epoch loop. Knows nothing of studies."""
