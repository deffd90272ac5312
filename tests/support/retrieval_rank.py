"""One rank of a distributed validation: adds its share of the batches and prints the values as JSON.

Usage: python retrieval_rank.py RANK WORLD_SIZE INIT_FILE BATCHES_FILE
"""

import json
import sys

import torch
import torch.distributed

from fairseq_vgs.tasks.validation_retrieval import RetrievalCollector


def main(rank: int, world_size: int, init_file: str, batches_file: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{init_file}", rank=rank, world_size=world_size
    )
    batches = torch.load(batches_file)
    collector = RetrievalCollector("dot")
    repeats = []
    n_steps = -(-len(batches) // world_size)
    for step in range(n_steps):
        number = step * world_size + rank
        # as fairseq: where a rank has no batch left, it takes the first one
        sample, embeddings = batches[number if number < len(batches) else 0]
        repeats.append(collector.begin(sample))
        collector.add(sample, embeddings)
    values = collector.values(collector.n_pairs)
    sys.stdout.write(json.dumps({"repeats": repeats, "n_pairs": collector.n_pairs, **values}) + "\n")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
