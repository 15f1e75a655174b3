"""What only a CUDA machine can tell: whether results agree with a processor's, how fast training
and prediction are, and what binds them.

    python -m validation.gpu --output results/gpu            # on the machine, in the repository
    python -m validation.gpu --device cpu --short            # a rehearsal

One JSON a stage, each in a process of its own; what is there is not run again. Needs torch, and of
the package's requirements einops, PyWavelets, safetensors and huggingface_hub alone.
`--wheels FOLDER` installs them from a folder. Rows of The Well's models are left out, with a line,
where the_well is not installed.

agreement    outputs, gradients and a curve of 50 steps, of the device beside the processor
throughput   samples a second and peak memory, training and prediction, eager and compiled
profile      kernels of a training step, what they do, gaps between them, and both bounds
tests        the tests that need CUDA, if pytest is there
"""
