"""Checks that a packed batch means what separate rows mean before TRL's numbers for it become golden."""
import torch


@torch.no_grad()
def check_packing(trainer) -> None:
    """Compares the summed loss of the first packed batch with that of its documents, each alone.

    Without flash attention TRL leaves it to transformers to find the borders between documents in position_ids; if
    it did not, a document would see those before it, and the sums would differ.
    """
    model = trainer.model.eval()
    n_rows = trainer.args.per_device_train_batch_size
    rows = [trainer.train_dataset[i] for i in range(n_rows)]
    keys = ("input_ids", "labels", "seq_lengths")
    batch = trainer.data_collator([{k: row[k] for k in keys} for row in rows])
    labels = batch.pop("labels")
    packed = _nll(model(**batch, use_cache=False).logits, labels)

    alone, n_documents = 0.0, 0
    for row in rows:
        for ids in torch.tensor(row["input_ids"]).split(list(row["seq_lengths"])):
            alone += _nll(model(input_ids=ids[None]).logits, ids[None])
            n_documents += 1
    model.train()
    if n_documents <= n_rows or abs(packed - alone) > 1e-5 * alone:
        raise RuntimeError(f"a packed batch of {n_documents} documents has loss {packed}, the documents alone {alone}")


def _nll(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Σ −log p(next token) over labels that are not -100. logits [B, T, V], labels [B, T]."""
    targets = labels[:, 1:]
    return float(
        torch.nn.functional.cross_entropy(
            logits[:, :-1].double().flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum"
        )
    )
