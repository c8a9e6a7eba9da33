/* Calls a function of a library on arrays from a file, and writes what it gives to another:
 *
 *     driver THREADS POOLS inputs outputs
 *
 * FUNCTION, LIBRARY and HEADER are given when it is compiled; INPUTS and OUTPUTS are the bytes of each array, {4, 16}. Each array has memory
 * of its own, of just its size, so that tools see whatever is read or written beside it. With POOLS calls go on at one time. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include HEADER

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define COUNT(sizes) (sizeof sizes / sizeof *sizes)

static const size_t inputs[] = INPUTS, outputs[] = OUTPUTS;
static void *given[COUNT(inputs)], *found[4][COUNT(outputs)];
static int threads;
static JOIN(LIBRARY, _pool) * pool;

static void *memory(size_t nbytes)
{
    void *p = malloc(nbytes);
    if (nbytes && !p) exit(3);
    return p;
}

static void *call(void *out)
{
    size_t nbytes = JOIN(FUNCTION, _workspace_nbytes)(threads);
    void *workspace = memory(nbytes);
    for (int again = 0; again < 2; again++) {
        int result = FUNCTION((const void *)given, out, workspace, nbytes, pool);
        if (result) fprintf(stderr, "result %d: %s\n", result, JOIN(LIBRARY, _message)(result)), exit(4);
    }
    free(workspace);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 5) return 2;
    threads = atoi(argv[1]);
    size_t calls = strtoul(argv[2], NULL, 10);
    FILE *file = fopen(argv[3], "rb");
    if (!file || calls < 1 || calls > 4) return 2;
    for (size_t i = 0; i < COUNT(inputs); i++) {
        given[i] = memory(inputs[i]);
        if (fread(given[i], 1, inputs[i], file) != inputs[i]) return 2;
    }
    fclose(file);
    for (size_t c = 0; c < calls; c++)
        for (size_t j = 0; j < COUNT(outputs); j++) found[c][j] = memory(outputs[j]);
    void *room = NULL;
    if (threads > 1) {
        room = memory(JOIN(LIBRARY, _pool_nbytes)(threads));
        pool = JOIN(LIBRARY, _pool_start)(room, threads);
        if (JOIN(LIBRARY, _pool_threads)(pool) != threads) return 5;
    }
    pthread_t callers[4];
    for (size_t c = 0; c < calls; c++)
        if (pthread_create(&callers[c], NULL, call, found[c])) return 6;
    for (size_t c = 0; c < calls; c++) pthread_join(callers[c], NULL);
    JOIN(LIBRARY, _pool_stop)(pool);
    free(room);
    file = fopen(argv[4], "wb");
    for (size_t j = 0; j < COUNT(outputs); j++) {
        fwrite(found[0][j], 1, outputs[j], file);
        for (size_t c = 1; c < calls; c++)
            if (memcmp(found[0][j], found[c][j], outputs[j])) return 7;
    }
    fclose(file);
    for (size_t c = 0; c < calls; c++)
        for (size_t j = 0; j < COUNT(outputs); j++) free(found[c][j]);
    for (size_t i = 0; i < COUNT(inputs); i++) free(given[i]);
    return 0;
}
