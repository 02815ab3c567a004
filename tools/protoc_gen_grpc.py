"""protoc plugin: Python gRPC stubs and their types, for the files that have services.

grpcio-tools keeps its generator inside its own protoc, where no other compiler can call it, and writes an empty
module for every file without a service. This wraps that protoc and mypy-protobuf's generator behind the protocol
that every protoc plugin speaks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def generate(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Generates `*_pb2_grpc.py` and `*_pb2_grpc.pyi` for the requested files that declare a service."""
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    wanted = set(request.file_to_generate)
    with_services = [file.name for file in request.proto_file if file.name in wanted and file.service]
    if not with_services:
        return response
    with tempfile.TemporaryDirectory() as directory:
        descriptors = Path(directory, "request.binpb")
        out = Path(directory, "out")
        out.mkdir()
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        status = protoc.main(
            ["protoc", f"--descriptor_set_in={descriptors}", f"--grpc_python_out={out}", *with_services]
        )
        if status != 0:
            response.error = f"grpc_python failed with status {status}"
            return response
        for path in sorted(out.rglob("*.py")):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text())
    response.file.extend(generate_types(request, with_services))
    return response


def generate_types(
    request: plugin_pb2.CodeGeneratorRequest, files: list[str]
) -> list[plugin_pb2.CodeGeneratorResponse.File]:
    """Asks mypy-protobuf's plugin for the stubs of `files`."""
    inner = plugin_pb2.CodeGeneratorRequest()
    inner.CopyFrom(request)
    del inner.file_to_generate[:]
    inner.file_to_generate.extend(files)
    inner.parameter = "quiet"
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    done = subprocess.run([plugin], input=inner.SerializeToString(), stdout=subprocess.PIPE, check=True)
    return list(plugin_pb2.CodeGeneratorResponse.FromString(done.stdout).file)


def main() -> None:
    """Speaks the plugin protocol on standard input and output."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(generate(request).SerializeToString())


if __name__ == "__main__":
    main()
