"""How much data a training function of 15 minutes, 10 GB and 2 cores can take."""
