"""WebAssembly: a program as one module, with a loader in JavaScript, and a page on which a language model writes.

    linking         wasm-ld, and sections of data
    example         the lines beside a module that run it
    loader.js       calls from JavaScript
    text_page       a page on which a language model writes, of the files in page/

`exporting` puts them together.
"""
