"""Writes the OpenAPI 3.1 document of the REST surface: `python -m tools.openapi IN.binpb OUT.yaml`."""
