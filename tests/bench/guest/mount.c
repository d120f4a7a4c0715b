/* The limit: mount(2) of NFS with an address that is given, and nothing else. Mounts the source on the
 * target; the mount point is there. Built by the bench, static. */
#include <stdio.h>
#include <sys/mount.h>

int main(int argc, char **argv) {
  if (argc != 4)
    return 64;
  if (mount(argv[1], argv[2], "nfs4", MS_NOSUID | MS_NODEV, argv[3])) {
    perror("mount");
    return 1;
  }
  return 0;
}
