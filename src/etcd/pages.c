#include "etcd/pages.h"

#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The read-only segments of one file. Pages that were written, even by the dynamic linker, are
 * private.
 */
static int give_back(struct dl_phdr_info *info, size_t size, void *page_size)
{
	const uintptr_t page = *(const uintptr_t *)page_size;

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t begin = (info->dlpi_addr + segment->p_vaddr) & ~(page - 1);
		uintptr_t end = (info->dlpi_addr + segment->p_vaddr + segment->p_memsz + page - 1) &
				~(page - 1);

		if (segment->p_type == PT_LOAD && !(segment->p_flags & PF_W))
			madvise((void *)begin, end - begin, MADV_DONTNEED);
	}
	return 0;
}

void pages_give_back(void)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	dl_iterate_phdr(give_back, &page);
}
