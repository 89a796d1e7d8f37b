"""Real texts that are at hand, and a tokenizer made of them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [str(ROOT / name) for name in ('README.md', 'docs/models.md')]


def tokenizer_in(folder, size=300):
    """Byte pairs of :data:`TEXTS`, saved as transformers' own; returns the folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train(TEXTS, trainers.BpeTrainer(vocab_size=size, special_tokens=['<eos>'], initial_alphabet=alphabet))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token='<eos>').save_pretrained(folder)
    return str(folder)
