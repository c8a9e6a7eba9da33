"""GPU text: kernels as CUDA C++ and as Metal, for the backends that have GPUs. It is no backend itself.

    target          GPUs, as far as schedules follow from them
    order           in which chains folds add up, which follows from the kernel alone
    schedule        how a kernel runs on a GPU, as data; schedule_text reads it back
    placement       facts of a kernel that decide where tiles may be and how stages may run
    verify          what is legal, rule by rule
    strategy        which schedule a kernel gets
    dialect         the words in which CUDA and Metal differ; headers/nagraph_gpu.h has whatever else does
    context         what the stages of a kernel share
    values          what the instructions of a stage are
    folds           what threads have, joined
    stage           a stage: loops, folds, writes, stores
    transposed      tiles that are read along one axis and stored along another
    barriers        where threads wait for one another
    emit            a kernel, whole
    lines           the lines of user code behind it
    sorting         sorts, which have no kernel form
"""
