/* Writes text with a language model of characters, exported as the library gpt2 (docs/exporting.md):
 *
 *     cc write_text.c $(pkg-config --cflags --libs gpt2/gpt2.pc) -lm -o write_text
 *     ./write_text "The " 200 0.8
 *
 * text.h has what the library does not know: SYMBOLS, CONTEXT, and EACH_LAYER, the numbers of the model's layers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpt2.h"
#include "text.h"

#define THREADS 2
#define PROMPT GPT2_PREFILL_IDS_COUNT
#define VOCABULARY GPT2_STEP_LOGITS_COUNT

static const char *const symbols[VOCABULARY] = {SYMBOLS};
static gpt2_prefill_inputs many;
static gpt2_prefill_outputs many_out;
static gpt2_step_inputs one;
static gpt2_step_outputs one_out;
static int32_t ids[PROMPT], start;
static float logits[VOCABULARY];
static void *workspace;
static gpt2_pool *pool;

static void check(int result)
{
    if (result) fprintf(stderr, "%s\n", gpt2_message(result)), exit(1);
}

/* Read text[done ... last - 1] into the cache, in blocks, of which the last may begin earlier, or hold more than is looked at. */
static void read_prompt(const int32_t *text, int last)
{
    for (int i = 0; i < last; i += PROMPT) {
        start = i < CONTEXT - PROMPT ? i : CONTEXT - PROMPT;
        for (int k = 0; k < PROMPT; k++) ids[k] = start + k < last ? text[start + k] : 0;
        check(gpt2_prefill(&many, &many_out, workspace, gpt2_prefill_workspace_nbytes(THREADS), pool));
    }
}

/* The symbol after text[0 ... last], of which the cache holds all but the last. */
static int32_t next_symbol(const int32_t *text, int last, double temperature)
{
    double weights[VOCABULARY], sum = 0;
    int32_t best = 0, chosen = 0;
    ids[0] = text[last], start = last;
    check(gpt2_step(&one, &one_out, workspace, gpt2_step_workspace_nbytes(THREADS), pool));
    for (int32_t i = 1; i < VOCABULARY; i++) best = logits[i] > logits[best] ? i : best;
    if (temperature <= 0) return best;
    for (int32_t i = 0; i < VOCABULARY; i++) sum += weights[i] = exp((logits[i] - logits[best]) / temperature);
    for (double drawn = sum * rand() / (RAND_MAX + 1.0); chosen < VOCABULARY - 1 && drawn >= weights[chosen]; chosen++) drawn -= weights[chosen];
    return chosen;
}

int main(int argc, char **argv)
{
    static int32_t text[CONTEXT + 1];
    int n = 0;
    if (argc != 4) return fprintf(stderr, "write_text PROMPT LENGTH TEMPERATURE\n"), 2;
    for (const char *at = argv[1]; *at; at += strlen(symbols[text[n++]])) {
        for (text[n] = 0; text[n] < VOCABULARY && strncmp(at, symbols[text[n]], strlen(symbols[text[n]])); text[n]++) continue;
        if (text[n] == VOCABULARY || n == CONTEXT) return fprintf(stderr, "the model can't read: %s\n", at), 1;
    }
    if (!n) return fprintf(stderr, "the prompt is empty\n"), 1;
    pool = gpt2_pool_start(malloc(gpt2_pool_nbytes(THREADS)), THREADS);
    size_t step = gpt2_step_workspace_nbytes(THREADS), prefill = gpt2_prefill_workspace_nbytes(THREADS);
    workspace = malloc(step > prefill ? step : prefill);
    many.ids = one.ids = ids, many.start = one.start = &start, one_out.logits = logits;
#define CACHE(in, out, count) many.in = one.in = many_out.out = one_out.out = calloc(count, sizeof *one_out.out);
#define LAYER(i) \
    CACHE(cache_layers_##i##_keys, next_layers_##i##_keys, GPT2_STEP_CACHE_LAYERS_##i##_KEYS_COUNT) \
    CACHE(cache_layers_##i##_values, next_layers_##i##_values, GPT2_STEP_CACHE_LAYERS_##i##_VALUES_COUNT)
    EACH_LAYER(LAYER)
    fputs(argv[1], stdout);
    read_prompt(text, n - 1);
    for (int length = atoi(argv[2]); length > 0; length--) {
        if (n > CONTEXT) {  /* the window begins anew with its last half */
            memmove(text, text + n - CONTEXT / 2, CONTEXT / 2 * sizeof *text);
            read_prompt(text, (n = CONTEXT / 2) - 1);
        }
        text[n] = next_symbol(text, n - 1, atof(argv[3]));
        fputs(symbols[text[n++]], stdout), fflush(stdout);
    }
    putchar('\n');
    gpt2_pool_stop(pool);
    return 0;
}
