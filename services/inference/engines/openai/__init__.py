"""Engine `openai`: models behind any server that speaks OpenAI's API."""
