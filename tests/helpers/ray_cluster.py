"""A Ray cluster on this machine: nodes of one CPU each, as many as the first argument says.

Prints its address; on the line ``remove`` kills the last node, ends on ``stop`` or the end of its input.
"""

import sys

from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
others = [cluster.add_node(num_cpus=1) for _ in range(int(sys.argv[1]) - 1)]
cluster.wait_for_nodes()
print(f"\naddress {cluster.address}", flush=True)
for line in sys.stdin:
    if line.strip() != "remove":
        break
    cluster.remove_node(others.pop(), allow_graceful=False)
cluster.shutdown()
