"""The training step that `regard-train step` times, in PyTorch: reads sizes as one line of JSON, then makes a step for
every further line and answers with what it took and the loss."""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

sizes = json.loads(sys.stdin.readline())
torch.set_num_threads(sizes["threads"])
torch.manual_seed(1)
dim, heads, vocabulary = sizes["dim"], sizes["heads"], sizes["vocabulary"]


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.inner, self.outer = nn.Linear(dim, sizes["inner_dim"]), nn.Linear(sizes["inner_dim"], dim)
        self.attention_norm, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x):
        batch, length, _ = x.shape
        split = lambda y: y.view(batch, length, heads, dim // heads).transpose(1, 2)
        attended = F.scaled_dot_product_attention(split(self.query(x)), split(self.key(x)), split(self.value(x)))
        x = self.attention_norm(x + self.output(attended.transpose(1, 2).reshape(batch, length, dim)))
        return self.norm(x + self.outer(F.gelu(self.inner(x))))


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, dim), nn.Embedding(sizes["positions"], dim)
        self.layers = nn.ModuleList(Layer() for _ in range(sizes["layers"]))
        self.norm, self.head, self.head_norm = nn.LayerNorm(dim), nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.head_bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, tokens, at):
        x = self.norm(self.words(tokens) + self.positions.weight[: tokens.shape[1]])
        for layer in self.layers:
            x = layer(x)
        x = self.head_norm(F.gelu(self.head(x.view(-1, dim)[at])))
        return x @ self.words.weight.T + self.head_bias


model = Bert()
for parameter in model.parameters():
    if parameter.dim() == 2:
        nn.init.normal_(parameter, std=0.02)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
tokens = torch.tensor(sizes["tokens"]).view(sizes["batch"], sizes["seq_len"])
at, right = torch.tensor(sizes["at"]), torch.tensor(sizes["right"])
for _ in sys.stdin:
    began = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(tokens, at), right)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    print(json.dumps({"seconds": time.perf_counter() - began, "loss": loss.item()}), flush=True)
