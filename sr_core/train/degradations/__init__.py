"""How LR frames are made of HR frames to train on: pure draws of parameters first, pixels afterwards."""
