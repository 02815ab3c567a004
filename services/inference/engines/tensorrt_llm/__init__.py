"""Engine `tensorrt_llm`: models on NVIDIA GPUs, through TensorRT-LLM's LLM API inside this process.

The library comes with NVIDIA's image and is imported when the engine starts, never before.
"""
