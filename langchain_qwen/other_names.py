"""What users of other packages type, and what it is called here.

A name that means the same is accepted (`max_completion_tokens` and the like, see `GenerationParameters`). These either
mean something else here or have no counterpart, so that their error says where to go.
"""

from __future__ import annotations

_THREADS = "leave it out: one thread runs on each physical core that the process may use (taskset limits them)"
_WINDOW = (
    "leave it out: the window is the checkpoint's own and is never cut in silence (kv_cache_bytes bounds its memory, "
    "HistoryTrimmer(model, window=...) the conversation)"
)
_GPU = 'write device="cuda"'
_QUANTIZED = 'write precision="int8" or precision="int4"'

PARAMETERS = {
    # Ollama
    "num_predict": "write max_tokens (without it an answer may fill what is left of the window, at most 8,192 tokens)",
    "num_ctx": _WINDOW,
    "format": (
        'write response_format={"type": "json_object"}, or use with_structured_output(schema), which always fits it'
    ),
    "keep_alive": "leave it out: the weights stay until model.close(), or until the last object that uses them is gone",
    "repeat_penalty": "write repetition_penalty",
    "num_thread": _THREADS,
    "num_gpu": _GPU,
    "validate_model_on_init": "call model.load() to have everything checked and loaded now",
    # llama.cpp
    "model_path": "write model",
    "n_ctx": _WINDOW,
    "n_threads": _THREADS,
    "n_gpu_layers": _GPU,
    "f16_kv": "leave it out: keys and values are held in 16 bits",
    "grammar": 'write response_format={"type": "grammar", "grammar": ...}, in llguidance\'s Lark',
    # OpenAI
    "functions": "use model.bind_tools(...)",
    "function_call": "use model.bind_tools(..., tool_choice=...)",
    "best_of": "write n",
    # Hugging Face
    "model_id": "write model",
    "max_length": "write max_tokens, which counts the answer alone",
    "do_sample": "write temperature=0 for the most likely answer, and a higher one to sample",
    "torch_dtype": "write precision",
    "dtype": "write precision",
    "device_map": "write device",
    "load_in_4bit": _QUANTIZED,
    "load_in_8bit": _QUANTIZED,
    "trust_remote_code": "leave it out: code in checkpoints is never run",
}
"""What to do instead of a parameter of another package."""
