"""The network side of the agent: everything that touches a server's bytes before they were checked.

It runs as a process of its own, as a user of its own, without capabilities, disks or keys (`worker`).  The agent asks
it through a socket (`messages`, `connection`) for one thing at a time and reads the answer from a pipe, counted and
timed, so that a worker that a server took over can do nothing but fail: every byte it hands over is checked against
signed hashes by the agent, which runs no parser of HTTP, TLS or zstd.

    worker       serves one connection, from start to end
    fetching     what it is asked for of servers: documents and objects
    unpacking    what it is asked for of a file that the agent has checked
    http         one bounded request
    messages     what crosses the socket
    connection   the agent's end
"""
