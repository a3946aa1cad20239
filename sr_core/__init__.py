"""Super-resolution on tensors: networks, colour, tiling and the engine. Imports no Ray, no PyAV, no boto3."""
