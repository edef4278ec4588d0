"""The seam between the layers and the world: what a runtime offers (`base`), real threads (`threads`), and who
waits for whom (`wait_for`).

Thread: nothing here runs by itself. Upstream: pthreads and libuv. Left out: re-exports; import from the modules.
"""
