"""A campaign that attacks the package: damaged files, wrong calls, kills, full disks, two processes
on one folder.

Every trial follows from (seed, part, number) alone and runs in a forked process that has imported
the package already, so that thousands fit into an hour. A trial may end well, with a warning, or
with a refusal: exit status 2 and one line that names the file or the option. Everything else falls
short.

processes.py   forked commands under a watch: time, memory, signals, descendants; what a refusal is
samples.py     tiny datasets in The Well's format by h5py alone, and an independent reading of them
runs.py        the commands that the trials run, and the runs that they begin from
damage.py      damaged content: names, dtypes, masks, attributes, dimensions, values
storage.py     damaged storage: chunks, sizes, links, bytes
folders.py     damaged statistics, run folders and configurations
files.py       one damaged file or folder through one command
calls.py       wrong arguments for the public functions and for the command line
targets.py     the functions with arguments that fit
hooks.py       a kill or an error at the n-th file operation
kills.py       interrupted trainings and generations, which must end as if nothing had happened
disks.py       full and read-only disks
pairs.py       two processes at once on one folder
campaign.py    which trials, side by side, resumable; the summary

    python -m validation.faults --source src --seed 1 --output results/faults/seed1.json \
        --files 2000 --calls 500 --kills 200 --disks 100 --pairs 40 --seconds 3600
    python -m validation.faults --source src --seed 1 --replay files/17

As root on Linux, disks are small tmpfs mounts that no other process sees; else errors of the system
are made up.
"""
