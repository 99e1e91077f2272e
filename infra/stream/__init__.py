"""What feeds the topic: the simulator and the replay."""
