// What is inside of the worker: the loader, sampling and the writer stand before this.
const loadProgram = (bytes) => load(bytes);
serve(self);
