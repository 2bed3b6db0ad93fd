/* What a library asks a process manager for in MPI_Init, and nothing else: the time of a start without that of a library.
 *   start [PUTS [used]]   used: say at the end how many ns of CPU time that has taken here
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static FILE *out, *in;
static char line[65536];

static void ask(const char *text)
{
    fputs(text, out);
    fputc('\n', out);
    fflush(out);
    if (!fgets(line, sizeof line, in) || (strstr(line, "rc=") && !strstr(line, "rc=0"))) {
        fprintf(stderr, "%s was answered by %s\n", text, line);
        exit(1);
    }
}

static int end(int says)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    if (says)
        printf("%lld\n", used.tv_sec * 1000000000LL + used.tv_nsec);
    return 0;
}

int main(int argc, char **argv)
{
    const char *given = getenv("PMI_FD");
    char text[2048], name[256];
    int rank, size, parts = argc > 1 ? atoi(argv[1]) : 3;

    if (!given) /* a plain launch */
        return end(argc > 2);
    rank = atoi(getenv("PMI_RANK"));
    size = atoi(getenv("PMI_SIZE"));
    out = fdopen(atoi(given), "w");
    in = fdopen(dup(atoi(given)), "r");
    ask("cmd=init pmi_version=1 pmi_subversion=1");
    ask("cmd=get_maxes");
    ask("cmd=get_appnum");
    ask("cmd=get_my_kvsname");
    sscanf(strstr(line, "kvsname=") + 8, "%255s", name);
    snprintf(text, sizeof text, "cmd=get kvsname=%s key=PMI_process_mapping", name);
    ask(text);
    for (int part = 0; part < parts; part++) {
        snprintf(text, sizeof text, "cmd=put kvsname=%s key=card-%d-%d value=%0500d", name, rank, part, rank);
        ask(text);
    }
    ask("cmd=barrier_in");
    for (int other = 0; other < size; other++)
        for (int part = 0; part < parts; part++) {
            snprintf(text, sizeof text, "cmd=get kvsname=%s key=card-%d-%d", name, other, part);
            ask(text);
        }
    ask("cmd=barrier_in");
    ask("cmd=finalize");
    return end(argc > 2);
}
