#include "add.h"

int main(void)
{
	return add(2, 2) != 4;
}
