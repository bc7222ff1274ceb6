"""TensorRT: linted, strongly typed ONNX and a build spec; where TensorRT-RTX can, an engine built ahead of time.

    export.py        a torch program as ONNX, with refusals in the user's own terms
    onnx_file.py     reading, tidying and writing ONNX, byte for byte the same each time
    files.py         writing a file whole or not at all
    quantizer.py     which tensors are quantized, and how
    lint.py          what TensorRT gets wrong without a word, found before it does
    build_spec.py    what an engine is built from, and what keys a device's cache
    build.py         builds one engine; a program of its own, because builders crash
    engine.py        runs that program with a time limit
    engine_check.py  whether a built engine is what was asked for
    batches.py       samples into batches, and outputs back
    cuda.py          the few calls of the CUDA driver that inference needs

The other files are those of every target.
"""
