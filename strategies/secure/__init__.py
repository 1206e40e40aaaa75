r"""Secure aggregation: the server learns a sum over clients and no client's part of it.

Client i has a vector of integers :math:`x_i`. What it sends looks uniform:

.. math::
    y_i = x_i + G(b_i) + \sum_{j \in U_2, j > i} G(s_{ij}) - \sum_{j \in U_2, j < i} G(s_{ij})
    \mod 2^k

:math:`s_{ij}` is the secret that clients i and j agree on, :math:`b_i` one of i's own, G a stream
cipher. In the sum over clients the masks of pairs cancel; t clients together can take away the
masks :math:`b_i` of those who delivered, and those of pairs with one who did not.

1. ``query.keys``, once a run: everybody's public key.
2. ``query.shares``: a client draws a new masking key and a new :math:`b_i`, cuts both in shares
   of which t are enough, and seals one of each for every peer. Where the last two sums were of the
   same clients, this is done for the next one within step 5, which saves a message: its masks are
   as fresh, and who is told of them is the same.
3. ``train``, or a query whose answers are added: :math:`y_i`, masked for the :math:`U_2` who
   have shared.
4. ``query.confirm``, only where somebody of :math:`U_2` did not deliver: the clients tell each
   other, through the server, that they were told the same V of those who did.
5. ``query.unmask``: shares of :math:`b_j` for j in V, and of the masking key for the others.

**What holds against a lying server.** A client checks the cohort itself (no fewer than 3, t more
than half of it, nobody twice), answers each step of an attempt once, and gives for each peer one
kind of share only. It gives none unless all of V have sent it a tag over the same :math:`U_2`;
and where V is smaller, unless t of V have sent it a tag over the same V. So, with c clients on
the server's side and :math:`2t > n + c`, the server gets one sum, over t clients or more, of
which c are its own.

**What does not.** The server relays the public keys. Where no node was told the keys of the others
(``peers``), it can play all of them and learns what the one real client has sent. It can ask for
the same round again with one client less, and subtract. Clients can send any vector in range,
and no check of single updates is possible. What the sum itself tells is told.

**What is taken from Flower**, and what is not. Key agreement (ECDH and HKDF; over P-256, five
times as fast as Flower's default P-384) and authenticated encryption (Fernet) are. Shamir's shares
come from the library that Flower calls: its wrapper pads 128 bits to 256 and starts threads for
what holds the interpreter's lock, which together takes 4 to 5 times as long. ``pseudo_rand_gen``
folds a seed to 32 bits for a Mersenne twister, so every mask could be found by trying; masks here
are AES-256 in counter mode. The quantiser rounds by numpy's global random state and overflows from
32 bits on; here the stream is keyed by seed, round and client.

Source: Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, CCS
2017, figure 4. The consistency check there is made of signatures in every round; here it is made
of tags between pairs, and needs an exchange of its own in rounds with a dropout only.
"""
