/* A ring, a sum over all ranks, and whatever the first argument asks for:
 *   abort N    rank 0 calls MPI_Abort with N
 *   latency N  ranks 0 and 1 send each other a byte N times
 *   steps N    N barriers, 50 ms apart: time to break something meanwhile
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int rank, size, token = 42, sum, number = argc > 2 ? atoi(argv[2]) : 0;
    const char *what = argc > 1 ? argv[1] : "";
    char byte = 0;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (!strcmp(what, "abort") && rank == 0)
        MPI_Abort(MPI_COMM_WORLD, number);
    if (size > 1) {
        int before = (rank + size - 1) % size, after = (rank + 1) % size;
        if (rank == 0)
            MPI_Send(&token, 1, MPI_INT, after, 0, MPI_COMM_WORLD);
        MPI_Recv(&token, 1, MPI_INT, before, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        token++;
        if (rank != 0)
            MPI_Send(&token, 1, MPI_INT, after, 0, MPI_COMM_WORLD);
    }
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (!strcmp(what, "latency") && rank < 2) {
        double begun = MPI_Wtime();
        for (int i = 0; i < number; i++) {
            if (rank == 0)
                MPI_Send(&byte, 1, MPI_CHAR, 1, 1, MPI_COMM_WORLD);
            MPI_Recv(&byte, 1, MPI_CHAR, 1 - rank, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            if (rank == 1)
                MPI_Send(&byte, 1, MPI_CHAR, 0, 1, MPI_COMM_WORLD);
        }
        if (rank == 0)
            fprintf(stderr, "%.1f us for a byte there and back\n", (MPI_Wtime() - begun) / number * 1e6);
    }
    if (!strcmp(what, "steps"))
        for (int i = 0; i < number; i++) {
            usleep(50000);
            MPI_Barrier(MPI_COMM_WORLD);
        }
    printf("rank %d of %d: sum %d\n", rank, size, sum);
    fflush(stdout);
    MPI_Finalize();
    if (rank == 0 && size > 1 && token != 42 + size)
        return 1;
    return 0;
}
