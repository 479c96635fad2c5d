// The console works without scripts; what they add is in here.
