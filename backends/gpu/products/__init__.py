"""Matrix products on GPUs, with whatever is computed along with them: attention, convolutions, and plain ones, which a library may take.

    stage_product   which stages are products, of which factors
    widened         16-bit floats that are read as what they are
    block_form      how a block of threads goes through a kernel with products
    form            its schedule as data
    tiles           which tiles a product may have
    roofline        how long a GPU would take, as a rule
    emission        the text
    verify          what is legal, rule by rule
    choose          which schedule a kernel gets
    library         plain products, and whether cuBLAS takes them
"""
