/* Build-time: writes what options.def declares, in the format named by the only argument, to
 * standard output. */
#include "config/describe.h"

#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	const char *format = argc == 2 ? argv[1] : "";
	int r;

	if (strcmp(format, "sample") == 0) {
		r = config_describe(stdout, CONFIG_FORMAT_SAMPLE);
	} else if (strcmp(format, "scdoc") == 0) {
		r = config_describe(stdout, CONFIG_FORMAT_SCDOC);
	} else if (strcmp(format, "help") == 0) {
		r = config_describe(stdout, CONFIG_FORMAT_HELP);
	} else {
		(void)fprintf(stderr, "usage: describe sample|scdoc|help\n");
		return 2;
	}
	if (r < 0)
		(void)fprintf(stderr, "describe: %s\n", strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
