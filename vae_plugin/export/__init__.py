"""Export of models to other tools: plain diffusers folders, single files, ONNX, code for `trust_remote_code`."""

from .diffusers_folder import plain, save_diffusers_folder
from .onnx_files import save_onnx
from .single_file import save_single_file

__all__ = ["plain", "save_diffusers_folder", "save_onnx", "save_single_file"]
