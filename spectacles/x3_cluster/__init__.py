"""Question 5 on several machines: servers without a table of their own, in front of one that lives in etcd."""
