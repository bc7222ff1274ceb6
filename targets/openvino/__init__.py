"""OpenVINO on CPUs: x86-64 and 64-bit ARM, in float32 and in INT8 by NNCF."""
